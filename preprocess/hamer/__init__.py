"""HaMeR: hands as meshes of the MANO model, from single pictures (Pavlakos et al., CVPR 2024), in plain torch.

Crops as HaMeR cuts them (`crop`), its network under the names of the official checkpoint (`network`, `checkpoint`),
MANO from the user's own file (`mano`), cameras (`camera`), smoothing over time (`smoothing`), the stage (`stage`).
"""

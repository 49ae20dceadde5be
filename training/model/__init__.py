"""iTryOn: Wan2.1-VACE with an Interaction Guider and action captions tied to their time."""

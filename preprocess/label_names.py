"""Label sets of published segmenters, by the names of their classes, in the label space of `schemas.conditions`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from schemas.conditions import Label
from schemas.errors import WeightsError
from schemas.manifest import Part

SIDES = {"l": "left", "r": "right"}
NAMES: dict[str, Label] = {
    # ATR (SegFormer-clothes), LIP and CIHP
    "background": Label.BACKGROUND, "hat": Label.HAT, "hair": Label.HAIR, "glove": Label.GLOVE,
    "sunglasses": Label.SUNGLASSES, "upper clothes": Label.UPPER_CLOTHES, "dress": Label.DRESS, "coat": Label.COAT,
    "socks": Label.SOCKS, "pants": Label.PANTS, "jumpsuits": Label.JUMPSUITS, "scarf": Label.SCARF,
    "skirt": Label.SKIRT, "face": Label.FACE, "left arm": Label.LEFT_ARM, "right arm": Label.RIGHT_ARM,
    "left leg": Label.LEFT_LEG, "right leg": Label.RIGHT_LEG, "left shoe": Label.LEFT_SHOE,
    "right shoe": Label.RIGHT_SHOE, "bag": Label.BAG, "belt": Label.BELT, "torso skin": Label.TORSO_SKIN,
    # Goliath (Sapiens), and the 29 classes of Sapiens2
    "apparel": Label.OTHER, "eyeglass": Label.SUNGLASSES, "face neck": Label.FACE, "left foot": Label.LEFT_LEG,
    "left hand": Label.LEFT_ARM, "left lower arm": Label.LEFT_ARM, "left lower leg": Label.LEFT_LEG,
    "left sock": Label.SOCKS, "left upper arm": Label.LEFT_ARM, "left upper leg": Label.LEFT_LEG,
    "lower clothing": Label.PANTS, "right foot": Label.RIGHT_LEG, "right hand": Label.RIGHT_ARM,
    "right lower arm": Label.RIGHT_ARM, "right lower leg": Label.RIGHT_LEG, "right sock": Label.SOCKS,
    "right upper arm": Label.RIGHT_ARM, "right upper leg": Label.RIGHT_LEG, "torso": Label.TORSO_SKIN,
    "upper clothing": Label.UPPER_CLOTHES, "lower lip": Label.FACE, "upper lip": Label.FACE,
    "lower teeth": Label.FACE, "upper teeth": Label.FACE, "tongue": Label.FACE,
    # Other spellings of these
    "gloves": Label.GLOVE, "glasses": Label.SUNGLASSES, "jumpsuit": Label.JUMPSUITS, "sock": Label.SOCKS,
    "upper cloth": Label.UPPER_CLOTHES, "neck": Label.TORSO_SKIN, "other": Label.OTHER,
}  # fmt: skip
"""Name of a class, as `plain` has it → label. Faces of Goliath and Sapiens2 reach down the neck."""
NEEDED = (
    Label.BACKGROUND, Label.UPPER_CLOTHES, Label.PANTS, Label.FACE, Label.HAIR, Label.LEFT_ARM, Label.RIGHT_ARM,
    Label.LEFT_LEG, Label.RIGHT_LEG,
)  # fmt: skip
"""What every parsing must tell apart: without it garments are painted over hands and faces."""
SAPIENS2 = (
    "Background", "Apparel", "Eyeglass", "Face_Neck", "Hair", "Left_Foot", "Left_Hand", "Left_Lower_Arm",
    "Left_Lower_Leg", "Left_Shoe", "Left_Sock", "Left_Upper_Arm", "Left_Upper_Leg", "Lower_Clothing", "Right_Foot",
    "Right_Hand", "Right_Lower_Arm", "Right_Lower_Leg", "Right_Shoe", "Right_Sock", "Right_Upper_Arm",
    "Right_Upper_Leg", "Torso", "Upper_Clothing", "Lower_Lip", "Upper_Lip", "Lower_Teeth", "Upper_Teeth", "Tongue",
)  # fmt: skip
"""Classes of Sapiens2 in their order (its docs/SEG.md), for checkpoints whose config.json names none."""


def plain(name: str) -> str:
    """`name` in lower case, words apart: "Left-arm", "left_arm", "L arm" and "LeftArm" are all "left arm"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+", " ", name).lower().split()
    return " ".join(SIDES.get(word, word) for word in words)


def label_table(names: Mapping[int, str], *, part: Part, where: str) -> NDArray[np.uint8]:
    """What each class of a segmenter is called, in a pair worn as `part`.

    Args:
        names: class → its name, as `id2label` in config.json has them.
        part: a segmenter that knows no coats calls the garment of an outer pair upper clothes: here it is COAT. One
            that knows no dresses calls it upper and lower clothing: here it is DRESS. So the embedded tier does it.
        where: the file, for the error.

    Returns:
        (classes,) uint8 of `Label`.

    Raises:
        WeightsError: classes have names that are not known, or labels are missing that every parsing needs.

    """
    plain_names = [plain(names[index]) for index in range(len(names))] if set(names) == set(range(len(names))) else []
    unknown = [names[index] for index, name in enumerate(plain_names) if name not in NAMES]
    missing = sorted(set(NEEDED) - {NAMES.get(name, Label.OTHER) for name in plain_names})
    if unknown or missing:
        faults = [f"unknown are {', '.join(unknown)}"] if unknown else []
        faults += [f"missing are {', '.join(label.name.lower() for label in missing)}"] if missing else []
        raise WeightsError(
            f"the model's classes (id2label) are not those of a person and clothes: {'; '.join(faults)}", where=where,
            allowed=", ".join(NAMES),
            remedy="Take one with the classes of ATR, LIP, CIHP, Goliath or Sapiens2, or name them so in config.json",
        )  # fmt: skip
    table = np.array([NAMES[name] for name in plain_names], np.uint8)
    if part is Part.OUTER and Label.COAT not in table:
        table[table == Label.UPPER_CLOTHES] = Label.COAT
    if part is Part.DRESS and Label.DRESS not in table:
        table[np.isin(table, (Label.UPPER_CLOTHES, Label.PANTS))] = Label.DRESS
    return table

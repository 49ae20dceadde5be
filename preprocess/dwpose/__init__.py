"""DWPose: people found by YOLOX-L, their 133 points by RTMPose-L as DWPose distilled it, both through onnxruntime.

Sources: DWPose (Yang et al., 2023, https://github.com/IDEA-Research/DWPose, Apache-2.0), YOLOX (Ge et al., 2021),
SimCC (Li et al., 2022). The files are `yolox_l.onnx` and `dw-ll_ucoco_384.onnx` of that project.

Pictures are RGB here as everywhere; the networks are fed BGR, since the published system reads its pictures with
OpenCV and swaps nothing (though the pose network's mean and deviation are those of RGB).
"""

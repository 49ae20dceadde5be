"""DensePose R-CNN in plain torch, and the stage that runs it on the presenter."""

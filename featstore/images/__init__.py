"""From image files to the squares of uint8 pixels that backbones see."""

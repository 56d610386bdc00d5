"""Shapes that people or programs drew on images: labelme JSON, COCO JSON and CVAT XML, read into one form."""

"""The form of `labelmap.txt`, in which CVAT lists classes with their colours."""

import re

LABELMAP_HEADING = "# label:color_rgb:parts:actions"
COLOURED = re.compile(r"(.*?):(\d{1,3}),(\d{1,3}),(\d{1,3})(?::[^,]*)?")  # a name may contain colons

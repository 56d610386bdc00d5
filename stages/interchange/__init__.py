"""Queries and answers in the file formats of other tools: tables, COCO, indexed PNG."""

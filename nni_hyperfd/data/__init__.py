"""A folder of images and boxes, in whatever format, as a data set; and its pixels."""

"""The weights in the box: how they were trained, and how well they fill holes."""

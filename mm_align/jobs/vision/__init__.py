"""`mmalign vision knowledge` and `mmalign vision landmarks`: a file each."""

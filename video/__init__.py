"""VIDEO: file -> VideoClip, and what to keep of it. Its parts arrive with the video work."""

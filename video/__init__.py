"""VIDEO: file -> VideoClip, and what to keep of it."""

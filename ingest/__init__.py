"""Files from outside: archives, images, blobs."""

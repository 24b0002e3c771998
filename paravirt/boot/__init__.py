"""From an image to the state a guest is entered in."""

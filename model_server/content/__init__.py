"""The content tower: what an item says about itself, as one vector, so that it can be recommended before anybody touched it."""

"""What may be recommended at all, how varied it is, and what stands in where the model has no answer."""

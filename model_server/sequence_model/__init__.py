"""The sequence model: what a user does next, learned online from everybody's event sequences."""

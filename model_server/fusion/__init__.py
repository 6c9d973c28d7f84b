"""Return-or-explore fusion of the patterns, the user's own rhythm and the sequence model."""

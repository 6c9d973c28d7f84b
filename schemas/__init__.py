"""What travels: message structs, topic specs, wire formats and connection settings. Imports nothing else of Chronotope."""

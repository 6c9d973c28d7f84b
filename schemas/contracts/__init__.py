"""The contracts that integrators build against, generated from the message structs: Avro, JSON Schema, AsyncAPI."""

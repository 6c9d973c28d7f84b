"""The stages of the flow, pure: columns in, messages and internal batches out; no Faust, no Kafka, no clock."""

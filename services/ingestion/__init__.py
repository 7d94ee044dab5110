"""Ingestion: raw events and labels in, validated columnar batches out."""

"""The models of a pipeline: listed, shown, compared, and verified from the log and the artefact store."""

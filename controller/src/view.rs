//! NodeView: cluster state in, inputs of the pipeline features out.

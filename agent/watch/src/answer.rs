//! What a model answers: its predictions, what they promise, and what labels say of them.

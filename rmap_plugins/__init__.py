"""Reverse-mapping schemes, one per file; each is one class, and the head of its file says where it comes from, how it
finds PTEs and what that costs. They import the face of mmcore (`mmcore.rmap`) and no other room."""

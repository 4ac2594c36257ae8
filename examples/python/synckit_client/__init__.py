"""A small SyncKit client, written from docs/protocol.md and vectors/ alone.

Each module implements the sections of the document that it names. It is an example and a second opinion on the
document, not a product: one thread, one account, whole files in memory, and Python does not wipe secrets.
"""

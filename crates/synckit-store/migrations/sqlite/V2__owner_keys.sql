-- Owner keys: who may replace an envelope, and whose snapshots the log may be cut to.

-- The owner key that came with the envelope; null for one from before there were owner keys.
ALTER TABLE envelopes ADD COLUMN owner BLOB CHECK (length(owner) = 32);

-- The owner key that signed the snapshot. Null until the manifest is there, and for a snapshot from before there were
-- owner keys: the log is never cut to one of those.
ALTER TABLE snapshots ADD COLUMN owner BLOB CHECK (length(owner) = 32);

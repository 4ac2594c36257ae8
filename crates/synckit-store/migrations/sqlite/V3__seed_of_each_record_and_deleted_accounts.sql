-- The OPRF seed that each password record was made under. A record is of use while that seed is the server's: a seed file
-- that turns up again makes the records of its time good again. Null if the seed is not known any more.
ALTER TABLE accounts ADD COLUMN seed_id BLOB CHECK (length(seed_id) = 16);
UPDATE accounts SET seed_id = (SELECT seed_id FROM server) WHERE record_is_stale = 0;
ALTER TABLE accounts DROP COLUMN record_is_stale;

-- 1 if the row is all that is left of a deleted account: it has an id of its own, which nobody was ever told, holds no
-- address, and owns the streams until they are swept, piece by piece.
ALTER TABLE accounts ADD COLUMN is_deleted INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1));
CREATE INDEX accounts_to_sweep ON accounts (account_key) WHERE is_deleted = 1;

-- Which invitation an account used up: without it a deletion would look at all of them.
CREATE INDEX invites_of_account ON invites (used_by) WHERE used_by IS NOT NULL;

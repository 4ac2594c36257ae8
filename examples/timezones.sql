-- Makes timezones.sqlite from zone1970.tab and iso3166.tab, which lie beside this script:
--
--     cd examples && rm -f timezones.sqlite && sqlite3 timezones.sqlite < timezones.sql
--
-- The two tables are of the IANA time zone database and in the public domain. Each line becomes a row; a line that
-- begins with '#' is a comment.

.bail on
CREATE TEMP TABLE line (number INTEGER PRIMARY KEY, text TEXT NOT NULL);

.mode ascii
.separator "\037" "\n"
CREATE TEMP VIEW imported AS SELECT text FROM line;
CREATE TEMP TRIGGER import INSTEAD OF INSERT ON imported BEGIN
    INSERT INTO line (text) VALUES (new.text);
END;

CREATE TABLE country (
    code TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE zone (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    -- Degrees of the principal location, north and east positive.
    latitude  REAL NOT NULL,
    longitude REAL NOT NULL,
    comment   TEXT
);

CREATE TABLE zone_country (
    zone_id      INTEGER NOT NULL REFERENCES zone (id),
    country_code TEXT NOT NULL REFERENCES country (code),
    -- Whether the zone's principal location lies in the country: zone1970.tab names that country first.
    is_principal INTEGER NOT NULL CHECK (is_principal IN (0, 1)),
    PRIMARY KEY (zone_id, country_code)
) WITHOUT ROWID;

.import iso3166.tab imported
INSERT INTO country (code, name)
SELECT substr(text, 1, instr(text, char(9)) - 1), substr(text, instr(text, char(9)) + 1)
FROM line WHERE text NOT LIKE '#%' AND text <> '' ORDER BY number;

DELETE FROM line;
.import zone1970.tab imported

CREATE TEMP TABLE field AS
WITH first AS (
    SELECT number, substr(text, 1, instr(text, char(9)) - 1) AS codes, substr(text, instr(text, char(9)) + 1) AS rest
    FROM line WHERE text NOT LIKE '#%' AND text <> ''
), second AS (
    SELECT number, codes, substr(rest, 1, instr(rest, char(9)) - 1) AS place, substr(rest, instr(rest, char(9)) + 1) AS rest
    FROM first
)
SELECT row_number() OVER (ORDER BY number) AS id, codes, place,
       CASE instr(rest, char(9)) WHEN 0 THEN rest ELSE substr(rest, 1, instr(rest, char(9)) - 1) END AS name,
       CASE instr(rest, char(9)) WHEN 0 THEN NULL ELSE substr(rest, instr(rest, char(9)) + 1) END AS comment,
       -- ISO 6709: sign and digits of the latitude, then of the longitude.
       CASE WHEN instr(substr(place, 2), '+') > 0 THEN instr(substr(place, 2), '+') ELSE instr(substr(place, 2), '-') END
           AS latitude_length
FROM second;

CREATE TEMP VIEW angle AS
WITH part AS (
    SELECT id, 'latitude' AS kind, substr(place, 1, 1) AS sign, substr(place, 2, latitude_length - 1) || '00' AS digits, 2 AS degree_digits
    FROM field
    UNION ALL
    SELECT id, 'longitude', substr(place, latitude_length + 1, 1), substr(place, latitude_length + 2) || '00', 3
    FROM field
)
SELECT id, kind,
       CASE sign WHEN '-' THEN -1 ELSE 1 END * round(
           CAST(substr(digits, 1, degree_digits) AS REAL)
           + CAST(substr(digits, degree_digits + 1, 2) AS REAL) / 60
           + CAST(substr(digits, degree_digits + 3, 2) AS REAL) / 3600, 6) AS degrees
FROM part;

INSERT INTO zone (id, name, latitude, longitude, comment)
SELECT id, name,
       (SELECT degrees FROM angle WHERE angle.id = field.id AND kind = 'latitude'),
       (SELECT degrees FROM angle WHERE angle.id = field.id AND kind = 'longitude'),
       comment
FROM field ORDER BY id;

INSERT INTO zone_country (zone_id, country_code, is_principal)
WITH RECURSIVE split (id, code, rest, place) AS (
    SELECT id, substr(codes || ',', 1, instr(codes || ',', ',') - 1), substr(codes || ',', instr(codes || ',', ',') + 1), 0
    FROM field
    UNION ALL
    SELECT id, substr(rest, 1, instr(rest, ',') - 1), substr(rest, instr(rest, ',') + 1), place + 1
    FROM split WHERE rest <> ''
)
SELECT id, code, place = 0 FROM split ORDER BY id, place;

VACUUM;

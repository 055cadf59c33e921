-- Makes sites.db: sqlite3 sites.db < sites.sql
PRAGMA page_size = 512;
CREATE TABLE sites (id INTEGER PRIMARY KEY, site TEXT NOT NULL, owner TEXT);
INSERT INTO sites VALUES (1, 'north', 'ada'), (2, 'south', 'grace'), (3, 'roof', NULL);

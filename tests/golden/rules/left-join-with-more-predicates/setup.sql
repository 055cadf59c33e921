CREATE TABLE sites (id bigint, site text, max_temperature double precision);
INSERT INTO sites VALUES (1, 'north', 20.5), (2, 'south', NULL), (2, 'cellar', 15);

CREATE TABLE rule_sites (id bigint, site text, max_temperature double precision);
INSERT INTO rule_sites VALUES (1, 'north', 20.5), (2, 'south', NULL), (2, 'cellar', 15);

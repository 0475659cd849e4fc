-- SPDX-License-Identifier: Apache-2.0
-- The token server's tables as the facts give them, for tests. The flag `downed` is a boolean here.
CREATE TABLE services (
    id serial PRIMARY KEY,
    service varchar(30) UNIQUE,
    pattern varchar(128)
);
CREATE TABLE nodes (
    id bigserial PRIMARY KEY,
    service int NOT NULL,
    node varchar(64) NOT NULL,
    available int NOT NULL,
    current_load int NOT NULL,
    capacity int NOT NULL,
    downed boolean NOT NULL,
    backoff int NOT NULL,
    UNIQUE (service, node)
);
CREATE TABLE users (
    uid bigserial PRIMARY KEY,
    service int NOT NULL,
    email varchar(255) NOT NULL,
    generation bigint NOT NULL,
    client_state varchar(32) NOT NULL,
    created_at bigint NOT NULL,
    replaced_at bigint,
    nodeid bigint,
    keys_changed_at bigint
);
CREATE INDEX lookup_idx ON users (email, service, created_at);
CREATE INDEX replaced_at_idx ON users (service, replaced_at);
CREATE INDEX node_idx ON users (nodeid);
INSERT INTO services (id, service, pattern) VALUES (3, 'other-1.0', '{node}/x'), (7, 'sync-1.5', '{node}/1.5/{uid}');

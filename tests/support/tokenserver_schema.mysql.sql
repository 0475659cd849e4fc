-- SPDX-License-Identifier: Apache-2.0
-- The token server's tables as the facts give them, for tests.
CREATE TABLE services (
    id int NOT NULL AUTO_INCREMENT PRIMARY KEY,
    service varchar(30) UNIQUE,
    pattern varchar(128)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE nodes (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    service int NOT NULL,
    node varchar(64) NOT NULL,
    available int NOT NULL,
    current_load int NOT NULL,
    capacity int NOT NULL,
    downed int NOT NULL,
    backoff int NOT NULL,
    UNIQUE KEY unique_idx (service, node)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
CREATE TABLE users (
    uid bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    service int NOT NULL,
    email varchar(255) NOT NULL,
    generation bigint NOT NULL,
    client_state varchar(32) NOT NULL,
    created_at bigint NOT NULL,
    replaced_at bigint,
    nodeid bigint,
    keys_changed_at bigint,
    KEY lookup_idx (email, service, created_at),
    KEY replaced_at_idx (service, replaced_at),
    KEY node_idx (nodeid)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO services (id, service, pattern) VALUES (3, 'other-1.0', '{node}/x'), (7, 'sync-1.5', '{node}/1.5/{uid}');

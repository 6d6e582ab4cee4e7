-- Who holds which blob; the rules that the code keeps are told in ingest/references.py.

CREATE SCHEMA ingest;

CREATE TABLE ingest.blobs (
    key        text COLLATE "C" PRIMARY KEY,
    bytes      bigint NOT NULL,
    media_type text NOT NULL
);

CREATE TABLE ingest.blob_references (
    owner text NOT NULL,
    key   text COLLATE "C" NOT NULL REFERENCES ingest.blobs,
    held  boolean NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX blob_references_key ON ingest.blob_references (key);

GRANT USAGE ON SCHEMA ingest TO imprimatur_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ingest.blobs, ingest.blob_references TO imprimatur_app;

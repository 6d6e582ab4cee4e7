-- Run once by the postgres image, as the superuser, when the cluster is new.
-- The owner migrates; the application only reads and appends, with what migrations grant it.

\getenv owner_password OWNER_PASSWORD
\getenv app_password APP_PASSWORD

-- Should a statement below fail, the log must not repeat it, for it holds a password.
SET log_min_error_statement = panic;

CREATE ROLE imprimatur_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE imprimatur_app LOGIN PASSWORD :'app_password';

CREATE DATABASE imprimatur OWNER imprimatur_owner;
REVOKE ALL ON DATABASE imprimatur FROM PUBLIC;
GRANT CONNECT ON DATABASE imprimatur TO imprimatur_app;

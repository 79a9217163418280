-- The roles of Fusillade in Postgres, for the database that this runs in. Run it
-- once, as a superuser, before the first migration:
--
--   createdb fusillade
--   psql --dbname fusillade --file roles.sql
--
-- Then give each role its certificate or its password (\password fusillade_api),
-- run `fusillade migrate up` as fusillade_owner, and grants.sql after it. It can
-- be run again.
--
-- fusillade_owner       migrations: owns the tables, and is used for nothing else
-- fusillade_dispatcher  cmd/dispatcher
-- fusillade_consumer    cmd/consumer
-- fusillade_api         cmd/api
-- fusillade_operator    fusillade keys, webhooks, secrets, owners, models set
-- fusillade_monitor     Grafana dashboards: what owners and batches have done

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['owner', 'dispatcher', 'consumer', 'api', 'operator', 'monitor'] LOOP
        IF to_regrole('fusillade_' || role) IS NULL THEN
            EXECUTE format('CREATE ROLE %I LOGIN', 'fusillade_' || role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), 'fusillade_' || role);
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO fusillade_owner;
GRANT USAGE ON SCHEMA public TO fusillade_dispatcher, fusillade_consumer, fusillade_api, fusillade_operator, fusillade_monitor;

-- A role and a database for each service, when the server's volume is new.
CREATE ROLE purser_auth LOGIN PASSWORD 'dev-only';
CREATE ROLE purser_portfolio LOGIN PASSWORD 'dev-only';
CREATE ROLE purser_wallet LOGIN PASSWORD 'dev-only';
CREATE DATABASE purser_auth OWNER purser_auth;
CREATE DATABASE purser_portfolio OWNER purser_portfolio;
CREATE DATABASE purser_wallet OWNER purser_wallet;

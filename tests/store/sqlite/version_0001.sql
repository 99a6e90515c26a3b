BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE kept (
	number INTEGER NOT NULL,
	id VARCHAR NOT NULL,
	box VARCHAR NOT NULL,
	state VARCHAR NOT NULL,
	transaction_id VARCHAR NOT NULL,
	created_at BIGINT NOT NULL,
	client VARCHAR NOT NULL,
	mail_from TEXT NOT NULL,
	rule VARCHAR,
	reason TEXT NOT NULL,
	size BIGINT NOT NULL,
	subject TEXT NOT NULL,
	header_from TEXT NOT NULL,
	message_id TEXT NOT NULL,
	changed_by TEXT,
	changed_at BIGINT,
	note TEXT NOT NULL,
	prepended BLOB NOT NULL,
	content BLOB NOT NULL,
	PRIMARY KEY (number),
	UNIQUE (id)
);
INSERT INTO "kept" VALUES(1,'01m84vek50bwdj6e','quarantine','held','01m84vek4zzmkmvx',1795456800123456,'192.0.2.1','Ann@Example.com','no-executables','an attachment a.exe',164,'Hello','Ann <ann@example.com>','<1@example.com>',NULL,NULL,'',X'52656365697665643A2066726F6D20636C69656E742E6578616D706C65206279206D782E6578616D706C652E6E65743B204D6F6E2C203233204E6F7620323032362031383A30303A3030202B303030300D0A',X'46726F6D3A20416E6E0D0A203C616E6E406578616D706C652E636F6D3E0D0A5375626A6563743A2048656C6C6F0D0A4D6573736167652D49443A203C31406578616D706C652E636F6D3E0D0A0D0A48690D0A');
CREATE TABLE kept_recipients (
	kept_id VARCHAR NOT NULL,
	position INTEGER NOT NULL,
	address TEXT NOT NULL,
	PRIMARY KEY (kept_id, position),
	FOREIGN KEY(kept_id) REFERENCES kept (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "kept_recipients" VALUES('01m84vek50bwdj6e',0,'carol@example.org');
INSERT INTO "kept_recipients" VALUES('01m84vek50bwdj6e',1,'dave@example.org');
CREATE TABLE recipients (
	transaction_id VARCHAR NOT NULL,
	position INTEGER NOT NULL,
	address TEXT NOT NULL,
	disposition VARCHAR NOT NULL,
	action VARCHAR NOT NULL,
	rule VARCHAR,
	reason TEXT NOT NULL,
	reply TEXT NOT NULL,
	PRIMARY KEY (transaction_id, position),
	FOREIGN KEY(transaction_id) REFERENCES transactions (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "recipients" VALUES('01m84vek4zzmkmvx',0,'Bob@example.net','relayed','accept',NULL,'','');
INSERT INTO "recipients" VALUES('01m84vek4zzmkmvx',1,'carol@example.org','quarantined','quarantine','no-executables','an attachment a.exe','250 2.0.0 Ok');
CREATE TABLE transactions (
	id VARCHAR NOT NULL,
	session_id VARCHAR NOT NULL,
	received_at BIGINT NOT NULL,
	client VARCHAR NOT NULL,
	helo TEXT NOT NULL,
	tls VARCHAR,
	authenticated TEXT,
	mail_from TEXT,
	size BIGINT,
	message_id TEXT NOT NULL,
	subject TEXT NOT NULL,
	reply TEXT NOT NULL,
	upstream TEXT,
	upstream_reply TEXT,
	seconds FLOAT NOT NULL,
	evaluations TEXT,
	PRIMARY KEY (id)
)
 WITHOUT ROWID

;
INSERT INTO "transactions" VALUES('01m84vek4zzmkmvx','session',1795456800123456,'192.0.2.1','client.example','TLSv1.3',NULL,'Ann@Example.com',1000,'<1@example.com>','=?utf-8?q?caf=C3=A9?=','250 2.0.0 Ok','mail.example.net:25','250 2.0.0 Ok: queued',0.0123,'[{"rule":"words","result":"hit","stage":5,"action":"reject","observed":true,"reason":"says \"viagra\"","recipients":["Bob@example.net"],"seconds":0.0015,"matches":[["subject","viagra"]]},{"rule":"quiet","result":"pass","stage":4,"action":null,"observed":false,"reason":"","recipients":[],"seconds":0.0,"matches":[]}]');
CREATE INDEX transactions_mail_from ON transactions (lower(mail_from), received_at);
CREATE INDEX transactions_client ON transactions (client, received_at);
CREATE INDEX transactions_message_id ON transactions (message_id);
CREATE INDEX transactions_received_at ON transactions (received_at);
CREATE INDEX kept_box ON kept (box, number);
CREATE INDEX kept_transaction_id ON kept (transaction_id);
CREATE INDEX kept_message_id ON kept (message_id);
CREATE INDEX kept_mail_from ON kept (lower(mail_from));
CREATE INDEX kept_created_at ON kept (created_at);
CREATE INDEX recipients_address ON recipients (lower(address));
CREATE INDEX kept_recipients_address ON kept_recipients (lower(address));
COMMIT;

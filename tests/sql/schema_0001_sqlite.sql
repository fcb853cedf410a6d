CREATE TABLE accounts (
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  token_kind VARCHAR(20) NOT NULL,
  secret TEXT NOT NULL,
  login TEXT,
  PRIMARY KEY (id)
);
CREATE TABLE child_settings (
  child_account_id TEXT NOT NULL,
  sync_images BOOLEAN NOT NULL,
  sync_images_all BOOLEAN NOT NULL,
  PRIMARY KEY (child_account_id),
  CONSTRAINT child_settings_exclusive CHECK (NOT (sync_images AND sync_images_all))
);
CREATE TABLE sync_queue (
  id INTEGER NOT NULL,
  entity_type VARCHAR(50) DEFAULT 'image_sync' NOT NULL,
  priority INTEGER DEFAULT '50' NOT NULL,
  status VARCHAR(20) DEFAULT 'pending' NOT NULL,
  payload JSON NOT NULL,
  attempts INTEGER DEFAULT '0' NOT NULL,
  max_attempts INTEGER DEFAULT '3' NOT NULL,
  scheduled_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
  lease_token VARCHAR(32),
  lease_expires_at DATETIME,
  dedupe_key TEXT,
  result TEXT,
  error TEXT,
  warnings JSON DEFAULT '[]' NOT NULL,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
  updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT sync_queue_status CHECK (status IN ('pending', 'processing', 'completed', 'failed')),
  CONSTRAINT sync_queue_scheduled_at_format CHECK (scheduled_at GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'),
  CONSTRAINT sync_queue_lease_expires_at_format CHECK (lease_expires_at GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'),
  CONSTRAINT sync_queue_created_at_format CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'),
  CONSTRAINT sync_queue_updated_at_format CHECK (updated_at GLOB '[0-9][0-9][0-9][0-9]-[0-1][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*')
);
CREATE INDEX sync_queue_due ON sync_queue (entity_type, status, priority DESC, scheduled_at, id);
CREATE UNIQUE INDEX sync_queue_one_pending ON sync_queue (dedupe_key) WHERE status = 'pending';
CREATE UNIQUE INDEX sync_queue_one_processing ON sync_queue (dedupe_key) WHERE status = 'processing';
CREATE TABLE sync_records (
  child_account_id TEXT NOT NULL,
  entity_type TEXT NOT NULL,
  child_entity_id TEXT NOT NULL,
  record JSON NOT NULL,
  PRIMARY KEY (child_account_id, entity_type, child_entity_id)
);

-- What a model costs, in US dollars for a million tokens, from a time on.
CREATE TABLE prices (
    provider   text           NOT NULL,
    model      text           NOT NULL,
    valid_from timestamptz    NOT NULL DEFAULT now(),
    input      numeric(14, 6) NOT NULL CHECK (input >= 0),
    output     numeric(14, 6) NOT NULL CHECK (output >= 0),
    PRIMARY KEY (provider, model, valid_from)
);

-- What was used, and what it cost at the price of its time.
CREATE TABLE usage (
    id            bigint         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz    NOT NULL DEFAULT now(),
    provider      text           NOT NULL,
    model         text           NOT NULL,
    organization  text           NOT NULL DEFAULT 'default',
    project       text           NOT NULL DEFAULT 'default',
    input_tokens  bigint         NOT NULL CHECK (input_tokens >= 0),
    output_tokens bigint         NOT NULL CHECK (output_tokens >= 0),
    cost          numeric(20, 9) NOT NULL
);

CREATE INDEX usage_at ON usage (at);
CREATE INDEX usage_organization_project ON usage (organization, project, at);

-- Prices to begin with; PUT /api/v1/prices sets newer ones.
INSERT INTO prices (provider, model, valid_from, input, output) VALUES
    ('openai',    'gpt-4o',            '2024-01-01T00:00:00Z', 2.50, 10.00),
    ('openai',    'gpt-4o-mini',       '2024-01-01T00:00:00Z', 0.15,  0.60),
    ('anthropic', 'claude-3-5-sonnet', '2024-01-01T00:00:00Z', 3.00, 15.00),
    ('anthropic', 'claude-3-5-haiku',  '2024-01-01T00:00:00Z', 0.80,  4.00);

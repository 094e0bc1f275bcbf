--- include: lib/rates
-- Charge a request to its client, or see how the client stands (rates.lua).
-- ARGV: the packed charges, '1' to look only.
-- Returns {1 admitted | 0 refused, then for each policy its quota, units used, ms to wait, refused so far}.
local admitted, rows = charge_rates(cmsgpack.unpack(ARGV[1]), now_ms(), ARGV[2] == '1')
write_rates()
return {admitted and 1 or 0, unpack(rows)}

--- include: lib/outbox
-- Tell a tenant's endpoints of an event of OpenAI's API.
-- ARGV: tenant, model or '', id of the object, type of the event, id of the one endpoint that is tried, once, or ''.
-- Returns the ids of the deliveries that this call or an earlier one with the same arguments has made.
local told = outbox().tell(ARGV[1], ARGV[2], ARGV[3], ARGV[3], ARGV[4], now_ms(), ARGV[5] ~= '' and ARGV[5])
write_ledgers()
return told

--- include: lib/base
-- Add to a change by an administrator how it went, where it is still kept.
-- ARGV: id, the change as JSON.
write_though_full()
redis.call('SET', key.auditentry(ARGV[1]), ARGV[2], 'XX', 'KEEPTTL')

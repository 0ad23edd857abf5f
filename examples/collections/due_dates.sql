SELECT json_build_object('public_id', public_id, 'was', was, 'is_now', is_now)
FROM collections.task
ORDER BY updated_at;

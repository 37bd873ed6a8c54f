drop function due_v2;

"""A witness of transparency logs (C2SP tlog-witness): cosigns a checkpoint only if it extends the last one that it cosigned.

It runs apart from the platform, with its own key and state, so that a log cannot show two histories to two readers.
"""

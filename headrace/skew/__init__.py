"""`headrace skew`: were rows served with the features that their records give?"""

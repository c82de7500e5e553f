// NAME URL switched|default warm|cold: a GET if warm, then a DELETE.
import okhttp3.OkHttpClient;
import okhttp3.Request;

class OkHttp {
    public static void main(String[] words) throws Exception {
        var builder = new OkHttpClient.Builder();
        if (words[2].equals("switched")) builder.retryOnConnectionFailure(false);
        var client = builder.build();
        var request = new Request.Builder().url(words[1]).header("Authorization", "HMAC-SHA256 one");
        try {
            if (words[3].equals("warm")) client.newCall(request.build()).execute().body().string();
            client.newCall(request.delete(null).build()).execute();
        } finally {
            System.exit(0);
        }
    }
}

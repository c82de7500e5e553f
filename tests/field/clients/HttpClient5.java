// NAME URL switched|default warm|cold: a GET if warm, then a DELETE.
import org.apache.hc.client5.http.classic.methods.HttpDelete;
import org.apache.hc.client5.http.classic.methods.HttpGet;
import org.apache.hc.client5.http.impl.classic.HttpClientBuilder;
import org.apache.hc.core5.http.io.entity.EntityUtils;

class HttpClient5 {
    public static void main(String[] words) throws Exception {
        var builder = HttpClientBuilder.create();
        if (words[2].equals("switched")) builder.disableAutomaticRetries();
        try (var client = builder.build()) {
            if (words[3].equals("warm")) EntityUtils.consume(client.execute(new HttpGet(words[1])).getEntity());
            var delete = new HttpDelete(words[1]);
            delete.setHeader("Authorization", "HMAC-SHA256 one");
            client.execute(delete);
        }
    }
}
